//! What the operator said, and what it means.
