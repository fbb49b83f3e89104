-- index less
DROP INDEX extent_object;
