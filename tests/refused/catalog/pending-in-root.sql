-- pending in root
INSERT INTO pending_link VALUES (1, x'70', x'78');
