"""What each round cost the earlier skills."""
