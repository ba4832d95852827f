//! Several real Docker hosts on one machine, each in namespaces of its own.
