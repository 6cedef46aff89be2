"""The dashboard as a web page: who is let in, what is sent, and one program for each page that is open."""
