// As `handler` in ahead.js, in the other form of modules, to be warm (bootstrap.js).

export const handler = async (event) => event;
