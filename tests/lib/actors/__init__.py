"""Who takes part: clients and their keys, hubs, users' servers, and the fakes that misbehave."""
