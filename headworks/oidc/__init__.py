"""Log-in to the console by OpenID Connect (authorization code flow with PKCE), beside tokens; off unless it is set.

`configuration` reads the settings, `handshake` ties an answer to the browser that asked, `provider` talks to the
provider, `id_token` checks what it says (pure), `pages` are the addresses that browsers visit. A session that
begins here is one like any other: `headworks.api.access` and `storage.tokens`.
"""
