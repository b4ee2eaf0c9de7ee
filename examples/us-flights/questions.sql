-- Which carriers are the most punctual: at most 15 minutes late at the destination?
SELECT
  rank() OVER (ORDER BY avg(CASE WHEN arr_delay <= 15 THEN 1.0 ELSE 0.0 END) DESC) AS place,
  a.name AS carrier,
  count(*) AS flights,
  round(100 * avg(CASE WHEN arr_delay <= 15 THEN 1.0 ELSE 0.0 END), 1) AS punctual_percent,
  count(*) - count(departed_at) AS cancelled
FROM flights f JOIN airlines a ON a.carrier = f.carrier
GROUP BY a.name
ORDER BY place, carrier;

-- Which ten routes are the slowest, of those flown at least once a day?
SELECT
  f.origin,
  f.dest,
  d.name AS destination,
  count(*) AS flights,
  round(avg(arr_delay), 1) AS mean_delay,
  median(arr_delay) AS median_delay,
  max(arr_delay) AS worst_delay
FROM flights f JOIN airports d ON d.faa = f.dest
WHERE arr_delay IS NOT NULL
GROUP BY f.origin, f.dest, d.name
HAVING count(*) >= 365
ORDER BY mean_delay DESC, f.origin, f.dest
LIMIT 10;

-- At what hour should one leave New York?
SELECT
  CAST(extract(hour FROM local_time) AS INTEGER) AS leaving_hour,
  count(*) AS flights,
  round(avg(dep_delay), 1) AS mean_delay,
  round(100.0 * count(*) FILTER (WHERE dep_delay > 60) / count(*), 1) AS over_an_hour_percent,
  round(100.0 * count(*) FILTER (WHERE departed_at IS NULL) / count(*), 1) AS cancelled_percent
FROM flights
GROUP BY CAST(extract(hour FROM local_time) AS INTEGER)
HAVING count(*) > 1
ORDER BY leaving_hour;

-- What does the weather do to a departure?
SELECT
  CASE
    WHEN w.visib < 1 THEN '1: fog'
    WHEN w.precip >= 0.1 THEN '2: heavy rain or snow'
    WHEN w.precip > 0 THEN '3: rain or snow'
    WHEN w.wind_gust >= 35 THEN '4: gale'
    ELSE '5: fair'
  END AS weather,
  count(*) AS flights,
  round(avg(f.dep_delay), 1) AS mean_delay,
  round(100.0 * count(*) FILTER (WHERE f.departed_at IS NULL) / count(*), 1) AS cancelled_percent
FROM flights f
JOIN weather w ON w.origin = f.origin AND w.observed_at = date_trunc('hour', f.scheduled_at)
GROUP BY 1
ORDER BY weather;

-- Which three aircraft flew the farthest from each airport, and what are they?
WITH flown AS (
  SELECT origin, tailnum, count(*) AS flights, sum(distance) AS miles
  FROM flights
  WHERE air_time IS NOT NULL
  GROUP BY origin, tailnum
), placed AS (
  SELECT origin, tailnum, flights, miles,
    row_number() OVER (PARTITION BY origin ORDER BY miles DESC, tailnum) AS place
  FROM flown
)
SELECT s.origin, s.place, s.tailnum, p.manufacturer, p.model, p.year AS built, s.flights, s.miles
FROM placed s LEFT JOIN planes p ON p.tailnum = s.tailnum
WHERE s.place <= 3
ORDER BY s.origin, s.place;
