-- Which ten pizzas bring in the most?
SELECT
  rank() OVER (ORDER BY sum(price) DESC) AS place,
  pizza,
  count(*) AS sold,
  CAST(sum(price) AS NUMERIC(12, 2)) AS revenue,
  round(100.0 * CAST(sum(price) AS DOUBLE PRECISION)
    / sum(CAST(sum(price) AS DOUBLE PRECISION)) OVER (), 2) AS revenue_percent
FROM sales
GROUP BY pizza
ORDER BY place, pizza
LIMIT 10;

-- When is the kitchen busiest: pizzas an hour on each day of the week?
WITH hours AS (
  SELECT
    date_trunc('hour', sold_at) AS sold_hour,
    CAST(extract(dow FROM sold_at) AS INTEGER) AS day_of_week,
    count(*) AS pizzas
  FROM sales
  GROUP BY date_trunc('hour', sold_at), CAST(extract(dow FROM sold_at) AS INTEGER)
)
SELECT
  CASE day_of_week WHEN 0 THEN 'Sunday' WHEN 1 THEN 'Monday' WHEN 2 THEN 'Tuesday'
    WHEN 3 THEN 'Wednesday' WHEN 4 THEN 'Thursday' WHEN 5 THEN 'Friday' ELSE 'Saturday' END AS day,
  count(*) AS hours_open,
  round(avg(pizzas), 2) AS mean_pizzas,
  max(pizzas) AS most_pizzas
FROM hours
GROUP BY day_of_week
ORDER BY mean_pizzas DESC;

-- How did each month do against the one before?
WITH months AS (
  SELECT date_trunc('month', sold_at) AS month, CAST(sum(price) AS NUMERIC(12, 2)) AS revenue
  FROM sales
  GROUP BY date_trunc('month', sold_at)
)
SELECT
  CAST(month AS DATE) AS month,
  revenue,
  revenue - lag(revenue) OVER (ORDER BY month) AS gain,
  CAST(sum(revenue) OVER (ORDER BY month) AS NUMERIC(12, 2)) AS revenue_so_far
FROM months
ORDER BY month;

-- What is the best pizza of each kind, in each size?
WITH counted AS (
  SELECT kind, size, pizza, count(*) AS sold
  FROM sales
  GROUP BY kind, size, pizza
), placed AS (
  SELECT kind, size, pizza, sold,
    rank() OVER (PARTITION BY kind, size ORDER BY sold DESC, pizza) AS place
  FROM counted
)
SELECT kind, size, pizza, sold FROM placed WHERE place = 1
ORDER BY kind, sold DESC, size;

-- How large are the orders?
WITH orders AS (
  SELECT order_id, count(*) AS pizzas, CAST(sum(price) AS NUMERIC(12, 2)) AS total
  FROM sales
  GROUP BY order_id
)
SELECT
  CASE WHEN pizzas >= 5 THEN '5 or more' ELSE CAST(pizzas AS TEXT) END AS pizzas,
  count(*) AS orders,
  min(total) AS cheapest,
  round(avg(CAST(total AS DOUBLE PRECISION)), 2) AS mean_total,
  max(total) AS dearest
FROM orders
GROUP BY 1
ORDER BY 1;
