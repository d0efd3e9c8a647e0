"""The dashboard: pages for people, in a process of its own. It shows what a broker says, and can order by it only."""
