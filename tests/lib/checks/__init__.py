"""What several test files check, and what they compare with."""
