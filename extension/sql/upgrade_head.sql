/* order_aggregator 1.0 to 1.1, put together by make of the files in extension/sql */

-- complain if script is sourced in psql, rather than via ALTER EXTENSION
\echo Use "ALTER EXTENSION order_aggregator UPDATE TO '1.1'" to load this file. \quit

