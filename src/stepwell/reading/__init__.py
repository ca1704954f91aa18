"""READ: from stored rows to what people and programs are shown of runs, without workflow code; changes nothing."""
