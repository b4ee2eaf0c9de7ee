-- Every purchase, up to June 1998, of the 23,570 customers who first bought at the online music shop
-- CDNOW in the first quarter of 1997.
CREATE STREAM purchases (
  customer_id INTEGER NOT NULL,
  purchased_on DATE NOT NULL,
  quantity SMALLINT NOT NULL,          -- CDs
  amount NUMERIC(8, 2) NOT NULL        -- dollars
) PARTITION BY (customer_id) WITH (partitions = 4);
