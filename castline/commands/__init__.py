"""The commands of `castline`, by what they are about. Each imports late, because `castline --help` has to be quick."""
