-- Each carrier's record, kept up to date with every departure.
CREATE MATERIALIZED VIEW carrier_record AS
SELECT
  carrier,
  count(*) AS flights,
  count(*) FILTER (WHERE arr_delay <= 15) AS punctual,
  count(*) - count(departed_at) AS cancelled,
  avg(arr_delay) AS mean_delay,
  max(arr_delay) AS worst_delay
FROM flights
GROUP BY carrier;

-- The same as a leaderboard: places are computed when it is read.
CREATE MATERIALIZED VIEW carrier_leaderboard AS
SELECT
  rank() OVER (ORDER BY punctual_percent DESC) AS place,
  carrier,
  flights,
  punctual_percent,
  mean_delay
FROM (
  SELECT
    carrier,
    flights,
    round(100.0 * punctual / flights, 1) AS punctual_percent,
    round(mean_delay, 1) AS mean_delay
  FROM carrier_record
  WHERE flights >= 100
);

-- Departures by hour and airport. The event time is the planned one, so events come out of order,
-- and a late one amends its hour.
CREATE MATERIALIZED VIEW airport_hour AS
SELECT
  origin,
  date_bin(INTERVAL '1 hour', scheduled_at) AS hour,
  count(*) AS flights,
  avg(dep_delay) AS mean_delay,
  max(dep_delay) AS worst_delay
FROM flights
GROUP BY origin, date_bin(INTERVAL '1 hour', scheduled_at);
