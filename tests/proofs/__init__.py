"""Tests of records, of repetitions and of receipts."""
