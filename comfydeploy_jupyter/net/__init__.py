"""What everything that speaks HTTP stands on: headers, bodies, JSON in pieces, tasks."""
