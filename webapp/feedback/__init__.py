"""Cases in which a visitor says that a verdict is wrong, kept with consent only."""
