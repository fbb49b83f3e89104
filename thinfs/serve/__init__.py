"""A repository as static files over HTTP: for a laptop, a small team, a test.

Anything larger is better off with a web server that is already there; ``docs/serving.md`` has
the configuration for nginx. Both pass the same contract tests.
"""
