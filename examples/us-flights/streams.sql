-- Every departure from New York's three airports in 2013. The events come in the order in which the
-- aircraft left, so the scheduled time, which is the event time, arrives late and out of order.
CREATE STREAM flights (
  scheduled_at TIMESTAMPTZ NOT NULL,   -- planned departure
  departed_at TIMESTAMPTZ,             -- actual departure; null: cancelled
  local_time TIMESTAMP NOT NULL,       -- planned departure on New York's clocks
  carrier TEXT NOT NULL,
  flight INTEGER NOT NULL,
  tailnum TEXT,
  origin TEXT NOT NULL,
  dest TEXT NOT NULL,
  dep_delay INTEGER,                   -- minutes; negative: early
  arr_delay INTEGER,                   -- minutes; null: cancelled or diverted
  scheduled_arrival TIME NOT NULL,     -- on the clocks of the destination
  air_time INTEGER,                    -- minutes
  distance INTEGER NOT NULL            -- miles
) PARTITION BY (carrier) WITH (event_time = 'scheduled_at', partitions = 4);

-- One observation an hour at each of the three airports.
CREATE STREAM weather (
  observed_at TIMESTAMPTZ NOT NULL,
  origin TEXT NOT NULL,
  temp DOUBLE PRECISION,               -- degrees Fahrenheit
  dewp DOUBLE PRECISION,               -- dew point, degrees Fahrenheit
  humid DOUBLE PRECISION,              -- relative humidity, per cent
  wind_dir INTEGER,                    -- degrees
  wind_speed DOUBLE PRECISION,         -- miles an hour
  wind_gust DOUBLE PRECISION,          -- miles an hour
  precip DOUBLE PRECISION,             -- inches
  pressure DOUBLE PRECISION,           -- millibars at sea level
  visib DOUBLE PRECISION               -- miles
) PARTITION BY (origin) WITH (event_time = 'observed_at', partitions = 2);

CREATE STREAM airlines (
  carrier TEXT NOT NULL,
  name TEXT NOT NULL
) WITH (partitions = 1);

CREATE STREAM airports (
  faa TEXT NOT NULL,
  name TEXT NOT NULL,
  lat DOUBLE PRECISION,
  lon DOUBLE PRECISION,
  alt INTEGER,                         -- feet
  tz SMALLINT,                         -- hours from UTC
  dst TEXT,
  tzone TEXT
) WITH (partitions = 1);

CREATE STREAM planes (
  tailnum TEXT NOT NULL,
  year SMALLINT,                       -- built
  type TEXT,
  manufacturer TEXT,
  model TEXT,
  engines SMALLINT,
  seats SMALLINT,
  speed SMALLINT,                      -- miles an hour
  engine TEXT
) WITH (partitions = 1);
