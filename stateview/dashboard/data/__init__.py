"""The data of the screens: key sources, diffs, JSON trees and the watcher. No widgets."""
