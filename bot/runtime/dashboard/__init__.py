"""What the pages are served with: their sources, their orders, their web server and the replays they ask for."""
