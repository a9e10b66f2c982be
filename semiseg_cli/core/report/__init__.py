"""The report of runs as one HTML page: charts, tables and pictures of what is handed in. It reads no run itself."""
