import { GUEST_PROXY_PORT } from '../link/constants.ts'

/** The gateway, as a guest's programs find it. */
export const PROXY = `http://127.0.0.1:${GUEST_PROXY_PORT}`
export const NO_PROXY = '127.0.0.1,localhost,::1'
/** Debian's certificates and those that were added to this host. */
export const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt'
