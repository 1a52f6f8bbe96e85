//! RunEvents to text.
