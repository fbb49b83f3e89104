"""Looking after a repository: what is in it, what is damaged, what nobody needs, taking it along."""
