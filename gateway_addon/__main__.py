from gateway_addon.cli import main

main(prog_name="gateway-addon")
