"""The gateways (CoAP, MQTT) and the pipeline behind them, which acknowledges only what is committed."""
