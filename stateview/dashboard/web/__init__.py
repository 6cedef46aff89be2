"""The dashboard as a web page: access control, the server, and one program for each open page."""
