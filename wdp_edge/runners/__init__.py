"""Native runners: small programs that load and time files in their own runtime, here or on another device."""
