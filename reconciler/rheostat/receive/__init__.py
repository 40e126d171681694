"""A receiver of profiles on this host, and a page that shows them: for a look, no store."""
