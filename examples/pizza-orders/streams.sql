-- Every pizza sold by one pizza place in 2015, one event each.
CREATE STREAM sales (
  order_id TEXT NOT NULL,
  sold_at TIMESTAMP NOT NULL,
  pizza TEXT NOT NULL,
  size TEXT NOT NULL,
  kind TEXT NOT NULL,
  price NUMERIC(5, 2) NOT NULL         -- dollars
) PARTITION BY (pizza) WITH (event_time = 'sold_at', partitions = 4);
