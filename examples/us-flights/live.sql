-- Who leads the league of punctual carriers?
SELECT place, carrier, flights, punctual_percent, mean_delay
FROM carrier_leaderboard
WHERE place <= 5
ORDER BY place, carrier;
