"""Commands from outside: signing, and the checks that stand between a broker and a vault. Pure, and nothing is sent."""
