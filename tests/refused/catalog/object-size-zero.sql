-- object size zero
UPDATE object SET size = 0;
