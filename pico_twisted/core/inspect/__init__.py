"""What an agent keeps of its calls for the developer who looks, and how it is shown, searched and copied."""
