"""What the tokenizer and its template make of rows, for validation and doctor."""
