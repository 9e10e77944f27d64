//! The admin routes.
