"""Looking after a repository: what is in it, what is damaged, and what nobody needs."""
