"""What a schema cannot know, checked before anything is queued: a module for each kind of request."""
