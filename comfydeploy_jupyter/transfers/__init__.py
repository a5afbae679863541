"""Files and messages on their way in and out: kept in the store until they have arrived."""
