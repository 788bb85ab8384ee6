//! tonic services, authentication, authorisation, conversions, status codes.
