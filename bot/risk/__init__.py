"""What may go wrong, in numbers: whether prices can be believed. Pure; imports domain and pricing only."""
