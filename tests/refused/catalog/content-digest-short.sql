-- content digest short
UPDATE content SET digest = x'00';
