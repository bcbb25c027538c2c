//! Asking upstream resolvers: whom, from which port, how often, and what counts as their answer.
