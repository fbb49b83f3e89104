"""Images as the OCI describes them: references, registries, layouts, archives, recipes."""
