-- Inserts, an index, joins, aggregates, updates and text search in memory.
CREATE TABLE item (id INTEGER PRIMARY KEY, grp INTEGER, price REAL, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
INSERT INTO item SELECT i, (i * 7919) % 211, (i * 31 % 1000) / 8.0, 'item ' || (i * 104729 % 99991) FROM n;
CREATE INDEX item_grp ON item (grp, price);
CREATE TABLE grp AS SELECT DISTINCT grp AS id, 'group ' || grp AS title FROM item;
SELECT count(*), round(sum(price), 3), max(name) FROM item;
SELECT title, count(*), round(avg(price), 3) FROM item JOIN grp ON grp.id = item.grp GROUP BY title ORDER BY 3 DESC, 1 LIMIT 20;
UPDATE item SET price = price * 1.25 WHERE grp % 3 = 0;
DELETE FROM item WHERE id % 17 = 0;
SELECT count(*) FROM item WHERE name LIKE '%77%';
SELECT a.id, b.id FROM item a JOIN item b ON b.id = a.id + 1 WHERE a.price > b.price AND a.grp = 5 ORDER BY a.id LIMIT 10;
SELECT grp, group_concat(id) FROM item WHERE id < 400 GROUP BY grp ORDER BY grp LIMIT 20;
SELECT round(sum(price), 3) FROM item;
