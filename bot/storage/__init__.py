"""Files that outlive the process: what may be written to them, by whom, and when the disk has it."""
