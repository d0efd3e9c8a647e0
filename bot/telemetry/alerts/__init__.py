"""Who is told when: rules over what vaults show, what is open now, and how it leaves. Never touches trading."""
