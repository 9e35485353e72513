#include <corering/recipes.hpp>
#include <iostream>

int main() {
    using std::chrono::milliseconds;
    const milliseconds soon(10000);
    auto db = corering::db::open("recipes-data");
    auto session = db.new_session(), other = db.new_session();

    // One leader among those who campaign, in the order in which they came.
    corering::election election(db, session, "cleaner");
    auto leaders = election.observe();
    auto leadership = election.campaign("host 7", soon);
    db.put("cleaned", "now", corering::guarded_by(leadership)); // whatever only the leader may write
    while (leaders.next(milliseconds(100))) {
        std::cout << "leads: " << (leaders.entries().empty() ? "" : leaders.entries().begin()->second) << "\n";
    }
    election.resign(std::move(leadership));

    // Many readers or one writer.
    corering::read_write_lock catalogue(session, "catalogue");
    {
        auto reading = catalogue.read(soon);
        reading.upgrade(); // reads no longer, writes
        db.put("catalogue", "new", corering::guarded_by(reading));
    }

    // A gate that its keeper opens.
    corering::barrier gate("migrated");
    auto closed = gate.close(session);
    std::cout << "passed while closed: " << gate.pass(other, milliseconds(50)) << "\n";
    closed.unlock();
    std::cout << "passed: " << gate.pass(other, soon) << "\n";

    // A place that a number of parties enter and leave together.
    const auto work = [&db, soon](corering::session &own) {
        corering::double_barrier party(db, own, "round 1", 2);
        return party.enter(soon) && party.leave(soon); // both are here; both are done
    };
    std::thread second([&] { work(other); });
    std::cout << "done together: " << work(session) << "\n";
    second.join();

    // Who is here; what a session that has ended said is gone.
    corering::group workers(db, "workers");
    auto members = workers.members();
    const auto member = workers.join(session, "host 7");
    while (members.next(milliseconds(100))) {
        std::cout << members.entries().size() << " here\n";
    }
    workers.leave(member);

    // Where services are.
    corering::registry services(db);
    services.add(session, "web", "1", "10.0.0.7:8080");
    const auto places = services.discover("web");
    for (const auto &place : places.entries()) {
        std::cout << place.first << " at " << place.second << "\n";
    }
    services.withdraw("web", "1");

    // What stands under a prefix, one state after the other.
    corering::mirror settings(db, "settings/");
    db.put("settings/colour", "red");
    while (settings.next(milliseconds(100))) {
        std::cout << "colour: " << settings.entries().at("settings/colour") << "\n";
    }
}
