"""The widgets of the dashboard's screens: lists, bars, panes and fields."""
