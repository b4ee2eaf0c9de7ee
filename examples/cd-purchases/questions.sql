-- Who are the ten best customers?
SELECT
  rank() OVER (ORDER BY sum(amount) DESC) AS place,
  customer_id,
  count(*) AS purchases,
  sum(quantity) AS cds,
  CAST(sum(amount) AS NUMERIC(12, 2)) AS spent
FROM purchases
GROUP BY customer_id
ORDER BY place, customer_id
LIMIT 10;

-- How much of the revenue comes from the best tenth of the customers?
WITH customers AS (
  SELECT customer_id, sum(CAST(amount AS DOUBLE PRECISION)) AS spent
  FROM purchases
  GROUP BY customer_id
), tenths AS (
  SELECT spent, ntile(10) OVER (ORDER BY spent DESC, customer_id) AS tenth
  FROM customers
)
SELECT
  tenth,
  count(*) AS customers,
  round(sum(spent), 2) AS revenue,
  round(100 * sum(spent) / sum(sum(spent)) OVER (), 1) AS revenue_percent
FROM tenths
GROUP BY tenth
ORDER BY tenth;

-- How many customers of each month of 1997 were still buying later?
WITH firsts AS (
  SELECT customer_id, date_trunc('month', min(purchased_on)) AS joined
  FROM purchases
  GROUP BY customer_id
)
SELECT
  CAST(f.joined AS DATE) AS first_month,
  count(DISTINCT f.customer_id) AS customers,
  count(DISTINCT f.customer_id) FILTER (WHERE p.purchased_on >= DATE '1997-07-01') AS after_june_1997,
  count(DISTINCT f.customer_id) FILTER (WHERE p.purchased_on >= DATE '1998-01-01') AS in_1998,
  count(DISTINCT f.customer_id) FILTER (WHERE p.purchased_on >= DATE '1998-06-01') AS in_june_1998
FROM firsts f JOIN purchases p ON p.customer_id = f.customer_id
GROUP BY f.joined
ORDER BY f.joined;

-- How long do customers wait between two visits?
WITH visits AS (
  SELECT DISTINCT customer_id, purchased_on FROM purchases
), waits AS (
  SELECT purchased_on
    - lag(purchased_on) OVER (PARTITION BY customer_id ORDER BY purchased_on) AS days
  FROM visits
)
SELECT
  CASE WHEN days <= 7 THEN '1: a week' WHEN days <= 31 THEN '2: a month'
    WHEN days <= 92 THEN '3: a quarter' ELSE '4: longer' END AS wait,
  count(*) AS waits
FROM waits
WHERE days IS NOT NULL
GROUP BY 1
ORDER BY 1;

-- On which days were the most CDs sold, and how far above the month's mean?
WITH days AS (
  SELECT purchased_on, sum(quantity) AS cds FROM purchases GROUP BY purchased_on
), compared AS (
  SELECT purchased_on, cds,
    avg(cds) OVER (PARTITION BY date_trunc('month', purchased_on)) AS month_mean
  FROM days
)
SELECT purchased_on, cds, round(month_mean, 1) AS month_mean, round(cds / month_mean, 2) AS times_mean
FROM compared
ORDER BY cds DESC, purchased_on
LIMIT 7;
