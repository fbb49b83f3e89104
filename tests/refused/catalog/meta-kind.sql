-- meta kind
UPDATE meta SET value = 'branch' WHERE key = 'kind';
